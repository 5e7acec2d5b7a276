#!/bin/sh
# The files that the examples read, in the folder given.
set -eu
mkdir -p "$1"
cd "$1"
net=fcn:depth=3,act=relu
widegram data prepare digits --out digits.h5 --train 600 --test 300
widegram gram --net $net --dtype float64 --x digits.h5:train/x --out K.h5
widegram gram --net $net --dtype float64 --x digits.h5:test/x --x2 digits.h5:train/x --out Kc.h5
widegram export K.h5 --kernel ntk --to K.npy
