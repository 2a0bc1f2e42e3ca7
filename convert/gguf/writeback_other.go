//go:build !linux

package gguf

import "io"

func startWriteback(io.Writer, int64, int64) {}
