"""numba kernels of the cpu backend; one thread runs each on one chunk of centres.

All centres of a chunk are of one element. The neighbours that a chunk keeps are *rows*, without
padding, grouped by neighbour element:

    rows of centre b, neighbour element t:   first_tb[t, b] <= row < first_tb[t, b + 1]

Per row, as structures of arrays (``capacity`` columns, of which the rows are the first):
``r_cp`` displacement, ``s_p`` and ``ds_p`` switched 1/r and its derivative (float64);
``rows_kp`` normalised environment row (precision of the descriptor); ``neighbour_p`` index of
the neighbour. A slot without a neighbour is not a row: what all empty slots of a centre add to
the moment is their number times a constant.

`rows` makes and scatters rows, `tables`, or `embedding` and `nets`, embed them, `features` leads to
the fitting net; `simd` has explicit vectors, `compiled` says how and where kernels are compiled.
"""
