"""Virtual devices of a machine that QEMU runs: its ends of vsock and of the security module.

QEMU shares the guest's memory with a process of ours (vhost-user); the device is then that process.
Sources: QEMU ``docs/interop/vhost-user.rst``; OASIS Virtual I/O Device 1.3, sections 2.7 (split
virtqueues) and 5.10 (socket device).
"""
