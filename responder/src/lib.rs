//! Policy, deny maps, expiry and the ledger: what the kernel is told to refuse, and why
