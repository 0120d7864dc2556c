"""llamatok beside its peers: same documents, same machine, turn by turn.

`peers` holds one adapter a library, `documents` the text, `worker` the process that one adapter runs in,
`run` the turn-taking and the comparison of ids, `hard` the texts that hurt tokenizers, and `report` what is
written from it all.
"""
