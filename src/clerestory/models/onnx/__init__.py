"""Models exported to ONNX: for a server without torch. ADR 17 says why, and what is guaranteed."""
