package workers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// note tells the user of a worker.
func (c *Coordinator) note(what news, b beat) {
	local := c.local != nil && c.local.has(b.Name)
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

// compare points out a worker that computes otherwise than the coordinator's engine does.
func (c *Coordinator) compare(b beat) {
	own := c.opts.Engine
	if own.Fingerprint == "" || own.Fingerprint == b.Engine.Fingerprint {
		return
	}
	c.mu.Lock()
	said := c.odd[b.Name]
	c.odd[b.Name] = true
	c.mu.Unlock()
	if !said {
		c.opts.Say(
			"%s computes other bits (%s, %s) than this program does (%s, %s); the factors found may depend on who evaluates what",
			b.Name,
			b.Engine.Host,
			b.Engine,
			own.Host,
			own,
		)
	}
}

// Status says who works.
type Status struct {
	Workers, Silent int            // ready; not heard of
	Lost            int            // evaluations that came to nothing
	Read            map[string]int // tokens, by each worker there was
}

// Status says how the work goes.
func (c *Coordinator) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Workers: c.book.alive(), Lost: c.book.lost, Read: maps.Clone(c.book.read)}
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
	for _, n := range s.Read {
		all += n
	}
	if all == 0 {
		return ""
	}
	byShare := slices.SortedFunc(maps.Keys(s.Read), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.Read[b], s.Read[a]), strings.Compare(a, b))
	})
	const most = 8
	var parts []string
	for _, name := range byShare[:min(most, len(byShare))] {
		parts = append(parts,
			fmt.Sprintf("%s read %.0f %%", name, 100*float64(s.Read[name])/float64(all)))
	}
	if more := len(byShare) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more the rest", more))
	}
	text := strings.Join(parts, ", ")
	if s.Lost > 0 {
		text += fmt.Sprintf("; %d evaluations were begun and not needed or not ended", s.Lost)
	}
	return text
}
