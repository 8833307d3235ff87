"""Parts that tests share: real small bundles, and fakes that implement the real ports."""
