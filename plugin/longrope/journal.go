package longrope

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/longrope/longrope/evals"
)

// discard removes a journal and what belongs to it, and nothing else that somebody named by mistake.
func discard(path string) error {
	journal, err := isJournal(path)
	if err != nil || !journal {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("--fresh: %w", err)
	}
	if err := os.Remove(heldOutFile(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--fresh: %w", err)
	}
	return nil
}

// isJournal says whether there is a study's journal at path.
func isJournal(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, len(`{"longrope_study"`))
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("--study: %w", err)
	}
	return string(head[:n]) == `{"longrope_study"`, nil
}

// textID is a text in the study's record: with other contents it is another study.
func textID(t evals.Text) string {
	return fmt.Sprintf("%s (%s, %d bytes)", t.Name, digest(t.Body)[:len("sha256:")+12], len(t.Body))
}

// journalsOf are the journals that a search left beside the factors that it wrote, or the journal itself.
func journalsOf(path string) ([]string, error) {
	if isStudy(path) {
		return []string{path}, nil
	}
	var found []string
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if rest, ok := strings.CutPrefix(name, filepath.Base(path)); ok && isStudy(name) && (rest == ".study" || rest[0] == '-') {
			found = append(found, filepath.Join(filepath.Dir(path), name))
		}
	}
	return found, nil
}

// isStudy tells a study's journal by its name.
func isStudy(path string) bool { return strings.EqualFold(filepath.Ext(path), ".study") }

// journal is the file of a rung's study.
func (f *searchFlags) journal(target int) string {
	if len(f.targets) == 1 {
		return f.study
	}
	return beside(f.study, size(target))
}
