package searchtest

import (
	"os"
	"sync"
	"time"
)

// clock is the time of a process in which nothing takes time but what says so.
var clock struct {
	mu      sync.Mutex
	elapsed time.Duration
}

// Now is the clock for commands that run the fake. It stands still but for FAKE_DELAY, which each
// call of the fake takes, and FAKE_TICK, which each look at the clock takes. Without these it is
// the machine's.
func Now() time.Time {
	if os.Getenv("FAKE_DELAY") == "" && os.Getenv("FAKE_TICK") == "" {
		return time.Now()
	}
	advance(delay("FAKE_TICK"))
	clock.mu.Lock()
	defer clock.mu.Unlock()
	return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC).Add(clock.elapsed)
}

func advance(d time.Duration) {
	clock.mu.Lock()
	defer clock.mu.Unlock()
	clock.elapsed += d
}
