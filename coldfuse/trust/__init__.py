"""Who is who, and proof of it.

- `keys`, `envelope`: keys and signatures; `root`, `members`, `view`: who may sign what, and who is a member.
- `requests`: what a signed request says, for one use; `rights`: who may ask what, in one table.
- `model_signature`: the signature in a model's folder, which other tools verify, too.
- `provenance`: what a release was made from, in a form that other tools read; `lineage`: who has signed the history.
- `signed_folder`: whether a folder is what its signature says.
- `tls`: certificate and key files, read and checked before anything is sent; `following`: replaced while they are used.
- `certs`: an authority and what it gives; `certs_folder`: where both lie; `host_names`: what a gateway is called by.
"""
