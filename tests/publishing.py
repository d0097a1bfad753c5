"""What a worker of a ledger does, for a process of its own, which imports this module and no tests."""

import os
import random
from pathlib import Path

from nstx.engine.jobs.ledger import Ledger


def publish_all(path: Path, folder: Path, seed: int) -> None:
    """Claim and publish until nothing waits, and die at a random moment, as `kill -9` has it."""
    generator = random.Random(seed)
    with Ledger(path) as ledger:
        while claims := ledger.claim(f"w{seed}", 2):
            for claim in claims:
                if generator.random() < 0.15:
                    os._exit(9)
                if claim.sha256 is not None and (folder / claim.id).exists():
                    ledger.acknowledge(claim)
                    continue
                part = folder / f"{claim.id}.{claim.fence}"
                part.write_text(str(claim.fence))

                def put(part: Path = part, name: str = claim.id) -> None:
                    assert not (folder / name).exists()
                    part.rename(folder / name)
                    if generator.random() < 0.15:
                        os._exit(9)

                ledger.publish(claim, "1" * 64, {"fence": claim.fence}, put)
