"""What the tests of the SDK share: where the gateway is and what is trusted of it."""

from __future__ import annotations

from stack import Stack

BASE_URL = "http://127.0.0.1:8700"
TENANT = "tnt_a3f9c42b"


def trust(stack: Stack) -> dict[str, object]:
    """Accept exactly this image, under the simulator's root."""
    return {
        "tenant": TENANT,
        "measurements": [stack.process.device.measurements.hex()],
        "simulated": True,
        "simulated_root_sha256": stack.world.nitro_root_sha256,
    }
