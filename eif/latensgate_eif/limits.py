"""Every limit of the image tool: one number each, its unit in its name, its reason beside it."""

from __future__ import annotations

from typing import Final

IMAGE_MAX_BYTES: Final = 2 * 1024**3
"""A whole image is held in memory; ours is below 200 MB, and the device file of an enclave's
instance seldom has more memory than this to spare."""
SECTIONS_MAX_COUNT: Final = 32
"""Places in the header's two tables."""
COMMAND_LINE_MAX_BYTES: Final = 2_048
"""COMMAND_LINE_SIZE of Linux on x86; a longer one is cut in silence at boot."""
METADATA_MAX_BYTES: Final = 64 * 1024
"""JSON; ours has about 600 bytes. It is not measured, so nothing depends on it."""
SIGNATURE_MAX_BYTES: Final = 32 * 1024
"""One certificate and one COSE_Sign1, each byte written as up to two."""
SIGNATURES_MAX_COUNT: Final = 1
"""The format has an array; nitro-cli writes one, and PCR8 names one."""
CERTIFICATE_MAX_BYTES: Final = 8 * 1024
"""A PEM certificate of a P-384 key has about 900 bytes."""
RAMDISK_FILE_MAX_BYTES: Final = 2**32 - 1
"""newc cpio writes a file's size in eight hex digits."""
RAMDISK_ENTRIES_MAX_COUNT: Final = 100_000
"""Ours have about 2,500; a hostile archive of empty files could name one every 112 bytes."""
RAMDISK_NAME_MAX_BYTES: Final = 1_024
"""With its closing zero; the longest of ours has about 130. Linux takes 4,096."""
