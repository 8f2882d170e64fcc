"""What the engine draws with: requests share a family's steps, or a pipeline's whole calls."""

from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.whole_call import WholeCall

Model = Family | WholeCall
