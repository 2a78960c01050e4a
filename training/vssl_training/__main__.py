"""`python -m vssl_training train …` is `vssl train …`: what `torchrun -m` starts in every process."""

from vssl.cli import main

main()
