"""The Python API, one module a part. Users take it from `coldfuse`, where each name is loaded when it is used.

    connect         `connect` and `fetch`; opening: the one way to a gateway, which verifies what has a root
    federation      `Federation`: what consumers and contributors do
    contributing    from a fine-tuned model, whatever it comes as, to a delta on the base
    models          the forms in which fine-tuned models come, as one: tensors by the base's names
    recognising     which release a model was made from, where its folder says so
    attach          `attach`: a Trainer that somebody has takes part; attaching: its rounds
    rounds          `Federation.round`: one round of a loop of somebody's own
    participating   a node's folder and sending, around either; own_delta: the delta that it sends
    fusing          `fuse`: models, deltas and adapters on a base, without a federation
    rank            `rank`: which base to start from; ranking: what it runs
    similarity      `similarity`: how alike models are; comparing: what it runs
    lineage         where a release comes from, release by release; lineage_svg: as a picture
    diff            `diff`: how far a model or a release moved, and who moved it
    push            `push`: a verified release, with its card, on the Hub
    methods         `methods`: what there is to fuse by
    places          folders, S3 and the hub
    bars            progress for who watches

What a caller may import stays light: a module is loaded by the call that needs it, and a library that only an extra
brings is named there, by `coldfuse.extras`.
"""
