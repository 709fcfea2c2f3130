"""Who is who, and proof of it.

- `tls`: certificate and key files, read and checked before anything is sent.
"""
