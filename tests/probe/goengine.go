package main

import (
	"github.com/longrope/longrope/tests/gosession"
	"github.com/longrope/longrope/tests/session"
)

// goLogits runs a model on the Go engine as the host's runner does: prefill in batches, tokens one
// by one, a context shift, tokens again.
func goLogits(path string, prefill, decode int) (map[string]*digest, error) {
	const batchSize = 64
	s, err := gosession.Open(path,
		session.Options{Context: prefill + 2*decode, Batch: batchSize, Keys: "f16"})
	if err != nil {
		return nil, err
	}
	defer s.Close()

	out := map[string]*digest{"prefill": newDigest(), "decode": newDigest(), "shifted": newDigest()}
	tokens := make([]int, prefill)
	for p := range tokens {
		tokens[p] = (p*7919 + p/3*31) % s.Vocab()
	}
	logits, err := s.Prefill(tokens, 0, 0, batchSize)
	if err != nil {
		return nil, err
	}
	for _, x := range logits {
		out["prefill"].add(x)
	}

	next, pos := argmax(logits[prefill-1]), prefill
	one := func(d *digest) error {
		if err := s.Decode(session.Token{ID: next, Pos: pos, Logits: true}); err != nil {
			return err
		}
		x := s.Logits(0)
		d.add(x)
		next, pos = argmax(x), pos+1
		return nil
	}
	for range decode {
		if err := one(out["decode"]); err != nil {
			return nil, err
		}
	}
	keep, discard := 4, pos/2
	if err := s.Shift(0, keep, discard); err != nil {
		return nil, err
	}
	pos -= discard
	for range decode {
		if err := one(out["shifted"]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
