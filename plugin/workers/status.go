package workers

import (
	"fmt"
	"strings"
)

// note shows the user news of a worker.
func (c *Coordinator) note(what news, b beat) {
	local := c.local != nil && c.local.has(b.ID)
	switch {
	case what == joined:
		if !local {
			c.opts.Say("%s joined (%s)", b.Name, b.Engine)
		}
		c.compare(b)
	case what == returned:
		c.opts.Say("%s is back", b.Name)
	case what == left && !local:
		c.opts.Say("%s left", b.Name)
	case what == failed && !local: // of a local one it is said when its process ends
		c.opts.Say("%s left: %s", b.Name, b.Problem)
	}
}

// compare points out a worker that computes other bits than the coordinator's engine.
func (c *Coordinator) compare(b beat) {
	own := c.opts.Engine
	if own.Fingerprint == "" || own.Fingerprint == b.Engine.Fingerprint {
		return
	}
	c.mu.Lock()
	said := c.odd[b.ID]
	c.odd[b.ID] = true
	c.mu.Unlock()
	if !said {
		c.opts.Say("%s computes other bits (%s, %s) than this program does (%s, %s); the factors "+
			"found may depend on who evaluates what",
			b.Name, b.Engine.Host, b.Engine, own.Host, own)
	}
}

// Status says who works.
type Status struct {
	Workers, Silent int // ready; not heard of
	Lost            int // evaluations that came to nothing
	Shares          []Share
}

// Share is the part of the workers of one name: one process, or several that were started one after
// the other, or that have the same name by chance.
type Share struct {
	Name      string
	Processes int
	Tokens    int // evaluated
}

// Status says how the work goes.
func (c *Coordinator) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Workers: c.book.alive(), Lost: c.book.lost, Shares: c.book.shares()}
	for _, m := range c.book.workers {
		if m.silent {
			s.Silent++
		}
	}
	return s
}

// String is the status as a part of a progress line.
func (s Status) String() string {
	text := fmt.Sprintf("%d workers", s.Workers)
	if s.Workers == 1 {
		text = "1 worker"
	}
	if s.Silent > 0 {
		text += fmt.Sprintf(" (%d not heard of)", s.Silent)
	}
	return text
}

// Summary is who did what, for the end: the shares of tokens, the largest first, and what was lost.
func (s Status) Summary() string {
	all := 0
	for _, share := range s.Shares {
		all += share.Tokens
	}
	if all == 0 {
		return ""
	}
	const most = 8
	var parts []string
	for _, share := range s.Shares[:min(most, len(s.Shares))] {
		name := share.Name
		if share.Processes > 1 {
			name = fmt.Sprintf("%s (%d processes)", name, share.Processes)
		}
		percent := 100 * float64(share.Tokens) / float64(all)
		parts = append(parts, fmt.Sprintf("%s evaluated %.0f %%", name, percent))
	}
	if more := len(s.Shares) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more the rest", more))
	}
	text := strings.Join(parts, ", ")
	if s.Lost > 0 {
		text += fmt.Sprintf("; %d evaluations were begun and not needed or not ended", s.Lost)
	}
	return text
}
