// Package tail keeps the end of what a process writes.
package tail

import (
	"bytes"
	"sync"
)

// kept is how many bytes are kept at least, where so many were written.
const kept = 8 << 10

// Buffer is a writer that keeps the end of what is written to it: days of work may write much. The
// zero value is ready; it may be used by several goroutines.
type Buffer struct {
	mu sync.Mutex
	b  []byte
}

// Write never fails.
func (t *Buffer) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if len(t.b) > 2*kept {
		t.b = append(t.b[:0], t.b[len(t.b)-kept:]...)
	}
	return len(b), nil
}

// LastLine is the last line that is not empty, without spaces around it; "" if there is none.
func (t *Buffer) LastLine() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.b), []byte("\n"))
	return string(bytes.TrimSpace(lines[len(lines)-1]))
}
