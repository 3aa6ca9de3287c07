"""Frozen TensorFlow graphs of DeePMD-kit (v1, v2, v3) without TensorFlow.

========================  ==================================================================
`graphdef`, `graph`       the file and its nodes; nothing of DeePMD-kit
`refused`                 what a graph may be that lmp_dp cannot evaluate, by name
`pieces`                  its descriptors, one by one: environment operations and name scopes
`descriptors`             a module for each kind, which tells its own by what the graph shows
`nets`, `activations`     embedding nets
`fitting`                 fitting nets, energies of the elements, parameters
`model`                   the model as a whole
========================  ==================================================================

What the graph computes decides; the training script inside it (or an input.json beside it) is
used only where the graph's operations leave something open.
"""
