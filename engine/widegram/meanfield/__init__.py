"""Mean field theory of wide networks: phases, depth scales, spectra beyond rounding, trainability.

The analysis of Xiao, Pennington and Schoenholz, "Disentangling trainability and generalization in
deep neural networks" (arXiv:1912.13053), for every activation of the engine. ``w_var`` is W_std^2
and ``b_var`` is b_std^2 throughout.
"""
