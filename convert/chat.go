package convert

import (
	"bytes"
	"fmt"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/template"

	"github.com/longrope/longrope/convert/gguf"
)

// ChatTemplate is how a model wants a conversation to be written.
type ChatTemplate struct{ t *template.Template }

// ChatTemplate is the template of a model of the store, or else the one that the host knows for the
// GGUF at path, which s was made into; nil: it has none. A template that is the prompt alone is
// none.
func (s *Source) ChatTemplate(path string) (*ChatTemplate, error) {
	text := ""
	if s.manifest != nil {
		for _, l := range s.manifest.Layers {
			if l.MediaType != mediaTemplate {
				continue
			}
			b, err := s.store.readBlob(l.Digest)
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
	}
	if text == "" {
		f, err := gguf.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		chat, _, err := f.String("tokenizer.chat_template")
		if err != nil {
			return nil, err
		}
		if known, err := template.Named(chat); chat != "" && err == nil {
			text = string(known.Bytes)
		}
	}
	if text == "" || text == "{{ .Prompt }}" {
		return nil, nil
	}
	t, err := template.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("chat template of %s: %w", s.Name, err)
	}
	return &ChatTemplate{t}, nil
}

// User is what a user says, up to where the answer begins.
func (c *ChatTemplate) User(text string) (string, error) {
	var b bytes.Buffer
	err := c.t.Execute(&b, template.Values{
		Messages: []api.Message{{Role: "user", Content: text}},
	})
	return b.String(), err
}
