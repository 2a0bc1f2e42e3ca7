package convert

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf/gguftest"
)

func TestChatTemplate(t *testing.T) {
	dir := t.TempDir()
	write := func(chat string) *Source {
		fx := gguftest.Tiny("llama")
		if chat != "" {
			fx = fx.With("tokenizer.chat_template", chat)
		}
		path := fx.Write(t, "m.gguf")
		return &Source{Kind: KindFile, Path: path, Name: path}
	}
	// ChatML, as the host knows it.
	s := write("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + " +
		"message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}" +
		"{{ '<|im_start|>assistant\n' }}{% endif %}")
	c, err := s.ChatTemplate(s.Path)
	require.NoError(t, err)
	require.NotNil(t, c)
	text, err := c.User("What is {key}?")
	require.NoError(t, err)
	require.Regexp(t, `(?s)<\|im_start\|>user\nWhat is \{key\}\?<\|im_end\|>\n`+
		`<\|im_start\|>assistant\n$`, text)

	s = write("")
	c, err = s.ChatTemplate(s.Path)
	require.NoError(t, err)
	require.Nil(t, c, "it has none")
	s = write("no template that anybody knows {{ 1 }}")
	c, err = s.ChatTemplate(s.Path)
	require.NoError(t, err)
	require.Nil(t, c)
	_, err = s.ChatTemplate(filepath.Join(dir, "none.gguf"))
	require.Error(t, err)
}
