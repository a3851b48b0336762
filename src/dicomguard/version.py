"""The version of this package, which its metadata take from here.

To ask the metadata would cost a lone ``check`` a tenth of its time.
"""

VERSION = "0.1.0"
