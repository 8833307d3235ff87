"""The demo: a broker, the cloud, three devices and a bank's customers on one machine, as separate processes."""
