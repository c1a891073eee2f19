import sys

from pyro_simvae.cli import main

sys.exit(main())
