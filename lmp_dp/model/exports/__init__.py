"""Models as the trees of DeePMD-kit's v3 formats, of which it gives the same energies."""
