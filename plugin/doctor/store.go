package doctor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/evals/label"
)

// examineStore says which models carry ladders, and which carry factors that nothing applies.
// patched is whether the server applies ladders.
func (m machine) examineStore(r *report, patched bool) {
	s, err := m.store()
	if err != nil {
		r.add(Note, "store", err.Error())
		return
	}
	names, err := s.Names()
	if err != nil {
		r.add(Fault, "store", err.Error())
		return
	}
	r.add(OK, "store", fmt.Sprintf("%s, models: %d", s.Dir, len(names)))
	for _, name := range names {
		grade, text, more := examineModel(s, name, patched)
		if text != "" {
			r.add(grade, "  model", name+": "+text, more...)
		}
	}
}

// examineModel has no text for a model without factors.
func examineModel(s *convert.Store, name string, patched bool) (Grade, string, []string) {
	src, err := s.Find(name)
	if errors.Is(err, convert.ErrNoGGUF) {
		return OK, "", nil // a cloud model, or one for MLX
	}
	if err != nil {
		return Fault, trim(name, err), nil
	}
	info, err := src.Inspect()
	switch {
	case errors.Is(err, gguf.ErrNoRoPE):
		return OK, "", nil // an embedding model, say
	case err != nil:
		return Fault, trim(name, err), nil
	case info.Ladder == nil && len(info.Stock.Notes) > 0:
		return Fault, "factors that nothing applies", info.Stock.Notes
	case info.Ladder == nil && info.Own != nil:
		return Note, "own long factors, which are chosen by num_ctx, for short prompts too; " +
			"longrope convert makes them a rung", nil
	case info.Ladder == nil:
		return OK, "", nil
	}
	var lengths []string
	for _, g := range info.Ladder.Rungs {
		lengths = append(lengths, label.Size(g.Length))
	}
	where := "in its file"
	if info.Layer != "" {
		where = "as a layer"
	}
	text := fmt.Sprintf("a ladder %s, for %s", where, strings.Join(lengths, ", "))
	if !patched {
		return Fault, text + ", which the server does not apply", nil
	}
	return OK, text, nil
}

// trim takes the name from the front of an error, which says it again.
func trim(name string, err error) string {
	return strings.TrimPrefix(err.Error(), name+": ")
}
