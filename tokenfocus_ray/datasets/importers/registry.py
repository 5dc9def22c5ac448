"""Every format that can be imported."""

from __future__ import annotations

from tokenfocus_ray.datasets.importers.base import Format
from tokenfocus_ray.datasets.importers.diffusiondb import DIFFUSIONDB
from tokenfocus_ray.datasets.importers.dsg import DSG
from tokenfocus_ray.datasets.importers.evalmuse import EVALMUSE
from tokenfocus_ray.datasets.importers.geneval2 import GENEVAL2
from tokenfocus_ray.datasets.importers.hf_parquet import HF_PARQUET
from tokenfocus_ray.datasets.importers.img2dataset import IMG2DATASET
from tokenfocus_ray.datasets.importers.oneig import ONEIG
from tokenfocus_ray.datasets.importers.pickapic import PICKAPIC
from tokenfocus_ray.datasets.importers.tifa import TIFA
from tokenfocus_ray.datasets.importers.webdataset import WEBDATASET
from tokenfocus_ray.errors import ConfigError, did_you_mean

FORMATS: dict[str, Format] = {
    "evalmuse": EVALMUSE,
    "pickapic": PICKAPIC,
    "hf-parquet": HF_PARQUET,
    "img2dataset": IMG2DATASET,
    "webdataset": WEBDATASET,
    "diffusiondb": DIFFUSIONDB,
    "tifa": TIFA,
    "dsg": DSG,
    "geneval2": GENEVAL2,
    "oneig": ONEIG,
}


def format_of(name: str) -> Format:
    """The format of that name.

    Raises:
        ConfigError: naming those that there are.
    """
    if name not in FORMATS:
        raise ConfigError(f"unknown format {name!r}. {did_you_mean(name, FORMATS)}")
    return FORMATS[name]
