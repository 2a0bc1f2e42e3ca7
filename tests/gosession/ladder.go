//go:build !stock

package gosession

import (
	"github.com/ollama/ollama/kvcache"
	"github.com/ollama/ollama/ml/nn/rope"
	"github.com/ollama/ollama/model"
	"github.com/ollama/ollama/model/input"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// ladders are the ladder of the file and the rung of each sequence.
type ladders struct {
	own   *rope.Ladder
	rungs []int
}

func newLadders(m model.Model, o session.Options) ladders {
	return ladders{own: rope.LadderOf(m.Backend()), rungs: make([]int, o.Sequences)}
}

func (l *ladders) setRungs(b *input.Batch) {
	for _, seq := range b.Sequences {
		b.Rungs = append(b.Rungs, l.rungs[seq])
	}
}

// SetLadder replaces the factors; nil restores the file's own. It clears the cache.
func (s *Session) SetLadder(l *ropescale.Ladder) error {
	g := s.own
	if l != nil {
		rows, windows := l.Rows()
		g = &rope.Ladder{StartWindows: windows}
		for r, row := range rows {
			g.Lengths = append(g.Lengths, int32(l.At(r).Length))
			g.Factors = append(g.Factors, row...)
		}
	}
	s.Clear()
	return s.model.Backend().(rope.LadderBackend).SetLadder(g)
}

// SetRung puts a sequence, which must have no cached keys, on a rung.
func (s *Session) SetRung(seq, rung int) { s.rungs[seq] = rung }

// Rerotate puts a sequence on a rung and its cached keys with it.
func (s *Session) Rerotate(seq, rung int) error {
	s.rungs[seq] = rung
	return s.cache.(kvcache.RungCache).Rerotate(seq, rung)
}

// Copy makes a sequence of the first n positions of another one, and puts it on that one's rung.
func (s *Session) Copy(from, to, n int) {
	s.rungs[to] = s.rungs[from]
	s.cache.CopyPrefix(from, to, int32(n))
}
