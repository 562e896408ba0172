"""k-means features (Coates, Lee & Ng 2011)."""

from hf_replearn.methods.fitted import register

from .configuration_kmeans import KMeansConfig
from .fitting_kmeans import KMeans
from .modeling_kmeans import KMeansModel

register(KMeansConfig, KMeansModel)

__all__ = ["KMeans", "KMeansConfig", "KMeansModel"]
