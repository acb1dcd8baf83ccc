"""What a unary gRPC request costs a server: nghttp2 in C++ against grpcio (docs/adr/0016-grpc.md)."""
