"""Models of DeePMD-kit 3 in its own formats: ``.dp``, ``.yaml`` and frozen PyTorch, ``.pth``.

==================================  =======================================================
`torch_archive`, `torch_pickle`     a TorchScript archive, without running what is in it
`torchscript`                       its modules as the tree that the other formats hold
`dp_file`, `yaml_text`              that tree from HDF5 and JSON, and from YAML
`tree`                              asking for parts of it: there and of their kind
`nets`, `descriptors`, `fitting`    its parts as those of a model, with the rules DP
`model`                             the model as a whole
==================================  =======================================================

Each layer says its activation and whether it joins its input, so that no rule about widths is
needed. `lmp_dp.model.exports` writes the tree.
"""
