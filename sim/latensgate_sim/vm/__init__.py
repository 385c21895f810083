"""An enclave's image in a virtual machine on this machine, with devices of our own.

QEMU emulates the processor, so it runs where there is no KVM, and slowly. It proves formats,
protocols and code paths; of Nitro hardware, its isolation and its speed it says nothing.
"""
