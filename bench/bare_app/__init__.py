"""What an engineer would write by hand for this one deployment: the resources of startup-mvp in plain CDK, with every
decision a literal.

`bench/synth.py` measures the kit against it. Nothing here is planned, shared or configurable, and nothing of the kit is
imported; only the folders of code that is uploaded are the kit's, since they are assets. The casts are there because
the CDK's stubs name some parameters differently in a class and in its interface.
"""
