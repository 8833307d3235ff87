"""How long a plan would take on a device, from the latency table that was measured there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cloud_service.compression.tuning.products import NetworkProduct
from cloud_service.compression.tuning.space import Plan
from shared.errors import MeasurementError
from shared.latency_table import LatencyTable
from shared.probes import Product


class LatencyPredictor:
    """Looks products up in one table.

    A table knows products alone. What else a network computes (attention, norms, its embedding) is `rest_ms`,
    the same for every plan: measure one plan as a whole on the device and ask `rest_ms` for it.
    """

    def __init__(self, table: LatencyTable) -> None:
        """`table`: as the device recorded it."""
        self._table = table
        self._refused = {entry.product: entry.reason for entry in table.unsupported}
        self._times: dict[Product, list[tuple[int, float]]] = defaultdict(list)
        for timing in sorted(table.timings, key=lambda timing: timing.tokens):
            self._times[timing.product].append((timing.tokens, timing.median_ms))

    def network_ms(self, products: Sequence[NetworkProduct], plan: Plan, tokens: int, rest_ms: float = 0.0) -> float:
        """One text of `tokens` tokens: the products as `plan` chooses, one run's overhead, and `rest_ms`.

        Parts of `plan` that are no products, such as the embedding, are taken to be in `rest_ms`.

        Raises:
            MeasurementError: the plan has no choice for a product, or the table lacks its size (the message
                names it).
        """
        if not plan.keys() >= {product.name for product in products}:
            missing = sorted({product.name for product in products} - plan.keys())
            raise MeasurementError(f"the plan has no choice for {', '.join(missing)}")
        parts_ms = [
            self.product_ms(
                Product(product.inputs, product.outputs, plan[product.name]), 1 if product.single else tokens
            )
            for product in products
        ]
        return sum(parts_ms) + self._table.overhead_ms + rest_ms

    def rest_ms(self, products: Sequence[NetworkProduct], plan: Plan, tokens: int, measured_ms: float) -> float:
        """What is left of a text's time `measured_ms` on the device, products and overhead taken off; at least 0.

        Measure a plan like those to be compared: products alone find warmer caches than in a network, so part of
        what is left depends on how many bytes of weights the plan has.

        Raises:
            MeasurementError: see `network_ms`.
        """
        return max(0.0, measured_ms - self.network_ms(products, plan, tokens))

    def product_ms(self, product: Product, tokens: int) -> float:
        """One product on `tokens` rows without the run's overhead, interpolated between the recorded numbers.

        Raises:
            MeasurementError: the table lacks the product, or `tokens` lies outside what was recorded.
        """
        recorded = self._times.get(product)
        if not recorded:
            reason = self._refused.get(product)
            why = f"the device cannot run it: {reason}" if reason else "it was not measured"
            raise MeasurementError(f"the latency table has no product {product}; {why}")
        counts, times_ms = zip(*recorded, strict=True)
        if not counts[0] <= tokens <= counts[-1]:
            raise MeasurementError(
                f"the latency table has product {product} for {counts[0]} to {counts[-1]} tokens, not for {tokens}"
            )
        return max(0.0, float(np.interp(tokens, counts, times_ms)) - self._table.overhead_ms)
