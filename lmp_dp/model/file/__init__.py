"""The model file: `container` is the HDF5 file with its checksum, `mapping` what stands in it."""

from lmp_dp.model.file.container import image, load, of_image, save, seal

__all__ = ["image", "load", "of_image", "save", "seal"]
