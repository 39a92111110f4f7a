"""The store that precompute writes and training reads: a folder of Parquet files (`parts`) and one manifest.json.

The manifest is written last: a folder without it is not a store. A store that is opened by URI is read from copies on
the node's own disk (`part_cache`), as far as they fit.
"""

from gscnn_platform.data.store.manifest import Identity, StaleStoreError, StoreError
from gscnn_platform.data.store.parts import SampleArrays
from gscnn_platform.data.store.store import SplitReader, Store, check_files, open_store

__all__ = [
    "Identity",
    "SampleArrays",
    "SplitReader",
    "StaleStoreError",
    "Store",
    "StoreError",
    "check_files",
    "open_store",
]
