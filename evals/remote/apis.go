package remote

import (
	"encoding/json"
	"errors"
)

// ollama is Ollama's API.
type ollama struct{}

func (ollama) name() string { return "ollama" }

type messages []struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// user is a conversation of one message.
func user(text string) messages {
	return messages{{Role: "user", Content: text}}
}

func (ollama) request(o Options, text string, answer int) (string, any) {
	type options struct {
		Temperature float64 `json:"temperature"`
		Seed        int     `json:"seed"`
		NumPredict  int     `json:"num_predict"`
		NumCtx      int     `json:"num_ctx,omitempty"`
	}
	body := struct {
		Model    string   `json:"model"`
		Prompt   string   `json:"prompt,omitempty"`
		Raw      bool     `json:"raw,omitempty"`
		Messages messages `json:"messages,omitempty"`
		Stream   bool     `json:"stream"`
		Options  options  `json:"options"`
	}{Model: o.Model, Options: options{NumPredict: answer, NumCtx: o.NumCtx}}
	if o.Chat {
		body.Messages = user(text)
		return "/api/chat", body
	}
	body.Prompt, body.Raw = text, true
	return "/api/generate", body
}

func (ollama) reply(b []byte) (text string, tokens int, err error) {
	var r struct {
		Response *string `json:"response"`
		Message  *struct {
			Content string `json:"content"`
		} `json:"message"`
		Tokens int `json:"prompt_eval_count"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return "", 0, errors.New("it is not JSON of this API")
	}
	switch {
	case r.Response != nil:
		return *r.Response, r.Tokens, nil
	case r.Message != nil:
		return r.Message.Content, r.Tokens, nil
	}
	return "", 0, errors.New("it has no text")
}

// openAI is the API of OpenAI, as other servers have it.
type openAI struct{}

func (openAI) name() string { return "openai" }

func (openAI) request(o Options, text string, answer int) (string, any) {
	body := struct {
		Model       string   `json:"model"`
		Prompt      string   `json:"prompt,omitempty"`
		Messages    messages `json:"messages,omitempty"`
		MaxTokens   int      `json:"max_tokens"`
		Temperature float64  `json:"temperature"`
		Seed        int      `json:"seed"`
	}{Model: o.Model, MaxTokens: answer}
	if o.Chat {
		body.Messages = user(text)
		return "/chat/completions", body
	}
	body.Prompt = text
	return "/completions", body
}

func (openAI) reply(b []byte) (text string, tokens int, err error) {
	var r struct {
		Choices []struct {
			Text    string `json:"text"`
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
		Usage struct {
			Tokens int `json:"prompt_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return "", 0, errors.New("it is not JSON of this API")
	}
	if len(r.Choices) == 0 {
		return "", 0, errors.New("it has no choices")
	}
	return r.Choices[0].Text + r.Choices[0].Message.Content, r.Usage.Tokens, nil
}
