"""GPyTorch: a kernel object that computes those of a network, with scale and noise by evidence.

Digits are told apart as small or large by the sign of a regression. The network has no parameters
that torch could differentiate; what is learnt are the ScaleKernel around it and the noise.
"""

import gpytorch
import torch
from sklearn.datasets import load_digits
from sklearn.utils import shuffle

import widegram


class NetworkKernel(gpytorch.kernels.Kernel):
    """The NNGP or NTK of a network; inputs are rows of its numbers."""

    def __init__(self, network, kernel="nngp", **options):
        super().__init__(**options)
        self.network, self.name = network, kernel

    def forward(self, x1, x2, diag=False, **parameters):
        """K(x1, x2), or the diagonal of it, in the dtype of the inputs."""
        rows, cols = x1.detach().numpy(), None if x1.equal(x2) else x2.detach().numpy()
        found = torch.from_numpy(widegram.kernel(self.network, rows, cols, self.name, "float64"))
        found = found.to(x1)
        return found.diagonal() if diag else found


class Model(gpytorch.models.ExactGP):
    """A constant mean, and the kernel scaled."""

    def __init__(self, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(NetworkKernel("fcn:depth=2"))

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


images, digits = shuffle(*load_digits(return_X_y=True), random_state=0)  # writers lie together
x = torch.from_numpy(images / 16.0)
y = torch.where(torch.from_numpy(digits) < 5, -1.0, 1.0).double()
likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
model = Model(x[:300], y[:300], likelihood).double()
evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for _ in range(60):
    optimizer.zero_grad()
    loss = -evidence(model(x[:300]), y[:300])
    loss.backward()
    optimizer.step()
model.eval()
likelihood.eval()
with torch.no_grad():
    found = likelihood(model(x[300:600]))
inside = ((y[300:600] - found.mean).abs() < 1.96 * found.stddev).double().mean()
print(f"scale {model.covar_module.outputscale.item():.3g}, noise {likelihood.noise.item():.3g}")
print(f"inside of 95 %: {inside.item():.3f}")
print(f"accuracy {((found.mean > 0) == (y[300:600] > 0)).double().mean().item():.4f}")
