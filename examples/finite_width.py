"""Wide networks trained by stochastic gradient descent, beside what their kernel predicts.

    python finite_width.py                            fully connected, 16 points, some minutes
    python finite_width.py --net cnn-f --width 64     convolutions, flattened (cnn-p: pooled)
    python finite_width.py --plot grid.png            draws the grid as well

For each (w_var, depth): a network of finite width in the NTK parameterization, its output less its
output at the start, is trained on the embedded digits by minibatches on the mean square error to
centred one-hot labels. Its NTK predicts the same number of steps of full-batch descent at the same
rate, f = Theta(x, X) Theta^-1 (1 - (1 - eta Theta / m)^steps) Y. arXiv:1912.13053 does so for its
figures of trainability: the line there is where kappa exceeds the number of steps.

NumPy alone: networks, their gradients and training are written out below.
"""

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np
from scipy.special import erf

import widegram
from widegram.data.preparing import prepare

B_VAR = 0.18
LINE = "{:5.2f}  {:5d}   {:13.3f}  {:7.3f}   {:12.3f}  {:7.3f}   {:14.3f}"


def slope(x):
    """The derivative of erf."""
    return 2.0 / np.sqrt(np.pi) * np.exp(-(x**2))


def patches(x):
    """The 3 x 3 neighbourhoods of all pixels, edges joined: (n, H, W, C) to (n, H, W, 9 C)."""
    moves = [(i, j) for i in (1, 0, -1) for j in (1, 0, -1)]
    return np.concatenate([np.roll(x, move, (1, 2)) for move in moves], axis=-1)


def scattered(grads, channels):
    """What :func:`patches` gathers, given back: its transpose."""
    parts = [grads[..., k * channels : (k + 1) * channels] for k in range(9)]
    moves = [(-i, -j) for i in (1, 0, -1) for j in (1, 0, -1)]
    return sum(np.roll(part, move, (1, 2)) for part, move in zip(parts, moves, strict=True))


class Network:
    """``depth`` layers of ``width`` outputs with erf, and a readout of ``classes``.

    z = sqrt(w_var / fan_in) x W + sqrt(B_VAR) b, with W and b drawn from N(0, 1). ``kind``: 'fcn',
    or 'cnn-f', 'cnn-p' of 3 x 3 convolutions, flattened or averaged over all pixels.
    """

    def __init__(self, kind, shape, width, depth, w_var, classes, rng):
        self.kind, self.w_var = kind, w_var
        patch = 1 if kind == "fcn" else 9
        pixels = shape[0] * shape[1]
        inputs = pixels * shape[2] if kind == "fcn" else shape[2]
        last = width * pixels if kind == "cnn-f" else width
        fans = [patch * inputs, *[patch * width] * (depth - 1), last]
        outs = [width] * depth + [classes]
        self.weights = [
            rng.standard_normal(size).astype(np.float32) for size in zip(fans, outs, strict=True)
        ]
        self.biases = [rng.standard_normal(out).astype(np.float32) for out in outs]

    def forward(self, x):
        """(outputs (n, classes), what :meth:`gradients` needs of every layer)."""
        kept, h = [], x
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            last = layer == len(self.weights) - 1
            spatial = h.shape
            if last and self.kind == "cnn-p":
                h = h.mean(axis=(1, 2))
            elif self.kind == "fcn" or last:
                h = h.reshape(len(h), -1)
            else:
                h = patches(h)
            z = h @ w * self.scale(w) + np.float32(B_VAR**0.5) * b
            kept.append((spatial, h, z))
            h = z if last else erf(z)
        return h, kept

    def scale(self, w):
        return np.float32((self.w_var / len(w)) ** 0.5)

    def gradients(self, kept, error):
        """[(of W, of b)] of the sum over outputs of ``error`` (n, classes) times them."""
        found, back = [], error
        for layer in reversed(range(len(self.weights))):
            spatial, h, _ = kept[layer]
            w = self.weights[layer]
            flat = back.reshape(-1, back.shape[-1])
            of_w = h.reshape(-1, h.shape[-1]).T @ flat * self.scale(w)
            found.append((of_w, flat.sum(axis=0) * np.float32(B_VAR**0.5)))
            if layer:
                back = self._through(back @ w.T * self.scale(w), spatial, layer)
                back = back * slope(kept[layer - 1][2])
        return found[::-1]

    def _through(self, back, spatial, layer):
        """Gradients of a layer's inputs as the layer before gave them, of shape ``spatial``."""
        last = layer == len(self.weights) - 1
        if last and self.kind == "cnn-p":
            pixels = spatial[1] * spatial[2]
            return np.broadcast_to(back[:, None, None] / np.float32(pixels), spatial)
        if self.kind == "fcn" or last:
            return back.reshape(spatial)
        return scattered(back, spatial[-1])

    def step(self, x, error, rate):
        """Change every weight by ``-rate`` times its gradient."""
        for k, (of_w, of_b) in enumerate(self.gradients(self.forward(x)[1], error)):
            self.weights[k] -= rate * of_w
            self.biases[k] -= rate * of_b


def trained(network, x, y, x_test, rate, steps, batch, rng):
    """Outputs of (x, x_test) less those at the start, after ``steps`` of minibatches."""
    start, start_test = network.forward(x)[0], network.forward(x_test)[0]
    for _ in range(steps):
        rows = rng.permutation(len(x))[:batch]
        error = (network.forward(x[rows])[0] - start[rows] - y[rows]) / np.float32(len(rows))
        network.step(x[rows], error, np.float32(rate))
    return network.forward(x)[0] - start, network.forward(x_test)[0] - start_test


def predicted(theta, cross, y, rate, steps):
    """The same of the kernel: ``steps`` of full-batch descent from f = 0; any matrices."""
    values, vectors = np.linalg.eigh(theta)
    values = np.maximum(values, 0.0)  # rounding
    shrunk = 1.0 - (1.0 - rate * values / len(y)) ** steps
    whole = np.where(values > 0.0, values, 1.0)
    alpha = vectors @ ((shrunk / whole)[:, None] * (vectors.T @ y))
    return theta @ alpha, cross @ alpha


def digits(train, test):
    """(x, labels) of both, images (n, 8, 8, 1) of mean square 1."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.h5"
        prepare("digits", file, train=train, test=test, normalize="unit-square")
        with h5py.File(file) as data:
            return [data[f"{part}/{what}"][:] for part in ("train", "test") for what in "xy"]


def accuracy(outputs, labels):
    """The share of rows whose largest output is the label's."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


def picture(rows, title, path):
    """Draw the accuracies of all points: training above, test below, the kernel's on the left."""
    from matplotlib.figure import Figure

    grid = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
    figure = Figure(figsize=(7, 6), layout="constrained")
    figure.suptitle(title)
    names = ("training, kernel", "training, network", "test, kernel", "test, network")
    for column, (axis, name) in enumerate(zip(figure.subplots(2, 2).flat, names, strict=True), 2):
        axis.set_title(name)
        values = {(row[0], row[1]): row[column] for row in rows}
        axis.imshow([[values[w, d] for w in grid[0]] for d in grid[1]], "inferno", vmin=0, vmax=1,
                    origin="lower", aspect="auto")  # fmt: skip
        for (w, d), value in values.items():
            at = grid[0].index(w), grid[1].index(d)
            axis.text(*at, f"{value:.3f}", ha="center", color="white" if value < 0.7 else "black")
        axis.set_xticks(range(len(grid[0])), grid[0])
        axis.set_yticks(range(len(grid[1])), grid[1])
        axis.set_xlabel("w_var")
        axis.set_ylabel("depth")
    figure.savefig(path, dpi=80)


def main(arguments=None):
    """Print a row for each point; return the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=("fcn", "cnn-f", "cnn-p"), default="fcn")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--w-var", type=float, nargs="+", default=[1.0, 1.5, 2.0, 2.5])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 4, 10, 25])
    parser.add_argument("--train", type=int, default=128)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="P.png", help="needs matplotlib")
    given = parser.parse_args(arguments)
    x, labels, x_test, labels_test = digits(given.train, given.test)
    y = (np.eye(10)[labels] - 0.1).astype(np.float32)
    title = f"{given.net}, width {given.width}, {given.steps} steps of {given.batch} of {len(x)}"
    print(title)
    print("w_var  depth   train: kernel  network   test: kernel  network   rms difference")
    rows = []
    for depth in given.depths:
        for w_var in given.w_var:
            rows.append(point(given, depth, w_var, (x, y, labels), (x_test, labels_test)))
            print(LINE.format(*rows[-1]), flush=True)
    if given.plot:
        picture(rows, title, given.plot)
    return rows


def point(given, depth, w_var, train, test):
    """(w_var, depth, accuracies, rms difference of the outputs in units of the labels' rms)."""
    (x, y, labels), (x_test, labels_test) = train, test
    rng = np.random.default_rng(given.seed)
    spec = f"{given.net}:depth={depth},act=erf,w_var={w_var},b_var={B_VAR}"
    theta = widegram.kernel(spec, x, get="ntk").astype(float)
    cross = widegram.kernel(spec, x_test, x, get="ntk").astype(float)
    rate = len(x) / np.linalg.eigvalsh(theta)[-1]  # half of the largest that converges
    network = Network(given.net, x.shape[1:], given.width, depth, w_var, 10, rng)
    ours = trained(network, x, y, x_test, rate, given.steps, given.batch, rng)
    theirs = predicted(theta, cross, y, rate, given.steps)
    apart = np.sqrt(np.mean((ours[0] - theirs[0]) ** 2) / np.mean(y**2))
    pairs = [
        accuracy(f[k], of) for k, of in ((0, labels), (1, labels_test)) for f in (theirs, ours)
    ]
    return (w_var, depth, *pairs, float(apart))


if __name__ == "__main__":
    main()
