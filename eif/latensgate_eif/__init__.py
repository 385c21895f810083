"""Nitro Enclave images (EIF): read, write, measure, sign, compare.

Own code over the published layout (aws-nitro-enclaves-image-format, `src/defs`), so that what a
reader checks is not what a vendor's tool says, and so that an image is the same bytes wherever and
whenever it is built.
"""
