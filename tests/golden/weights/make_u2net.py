"""Makes the golden files of U2-Net with the original code, of which nothing is here: it is imported.

    PYTHONPATH=. python tests/golden/weights/make_u2net.py U-2-NET tests/golden/weights

U-2-NET is a checkout of xuebinqin/U-2-Net, at commit ac7e1c8 or later. It needs PyTorch; 1.13.1 made the files.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]

from tests.support.seeded_weights import picture, seeded

SEED, SIZE, STEPS = 7, (160, 96), (11, 9)


def main(checkout: str, output: str) -> None:
    """Writes OUTPUT/u2net.npz and u2netp.npz: names and shapes of the tensors, the seed, seven logits."""
    for name in ("skimage", "matplotlib", "matplotlib.pyplot", "torchvision", "PIL"):
        sys.modules[name] = MagicMock()  # which the preprocessing that is asked for does not use
    sys.path.insert(0, checkout)
    loader, networks = importlib.import_module("data_loader"), importlib.import_module("model")
    for name in ("u2net", "u2netp"):
        network = getattr(networks, name.upper())(3, 1).eval()
        state = network.state_dict()
        shapes = {key: list(state[key].shape) for key in sorted(state) if not key.endswith(".num_batches_tracked")}
        values = seeded(shapes, SEED)
        network.load_state_dict({**state, **{key: torch.from_numpy(value) for key, value in values.items()}})
        logits = run(loader, network)
        print(name, len(shapes), logits.std(axis=(1, 2)))
        np.savez_compressed(
            Path(output) / f"{name}.npz",
            names="\n".join(shapes),
            shapes=" ".join(",".join(map(str, shape)) for shape in shapes.values()),
            seed=SEED,
            size=SIZE,
            steps=STEPS,
            logits=logits[:, :: STEPS[0], :: STEPS[1]],
        )


def run(loader: Any, network: Any) -> np.ndarray:
    """The logits of the seven maps, float32[7, H, W], of the picture as u2net_test.py prepares it."""
    image = picture(*SIZE, SEED)
    sample: Mapping[str, Any] = {"imidx": np.array([0]), "image": image, "label": np.zeros((*SIZE, 1))}
    inputs = loader.ToTensorLab(flag=0)(sample)["image"].type(torch.FloatTensor)[None]
    with torch.no_grad(), patch.object(torch.nn.functional, "sigmoid", lambda logits: logits):
        return np.stack([output[0, 0].numpy() for output in network(inputs)])


if __name__ == "__main__":
    main(*sys.argv[1:])
