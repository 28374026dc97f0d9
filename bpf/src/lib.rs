//! Hedgerow's BPF programs, their skeletons and the wire format they share with user space
