"""How long a test waits for what must come: so long that a slow and busy machine is no reason to fail.

A wait ends when its condition holds, so patience costs nothing where all is well. What must be fast is
asserted as such: by a figure that the load of others does not change, or by a bound far from what is wrong.
"""

PATIENCE = 60.0  # seconds
