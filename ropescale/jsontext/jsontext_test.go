package jsontext

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNoKeyTwice(t *testing.T) {
	for text, want := range map[string]string{
		`{"a": 1, "b": {"a": 2}, "c": [{"a": 1}, {"a": 1}], "d": "a", "e": ["a", "a"]}`: "",
		`{"a": 1, "b": {}, "a": 2}`:                         `line 1: the key "a" occurs twice`,
		"{\"a\": {\"b\": 1,\n\"c\": [1, \"b\"], \"b\": 2}}": `line 2: the key "b" occurs twice`,
		`{"r": [{"a": 1}, {"a": 1, "a": 2}]}`:               `the key "a" occurs twice`,
		`[1, 2]`:                                            "",
	} {
		err := NoKeyTwice([]byte(text))
		if want == "" {
			assert.NoError(t, err, text)
		} else {
			assert.ErrorContains(t, err, want, text)
		}
	}
}

func TestPlain(t *testing.T) {
	var v struct {
		Params struct {
			Factor  float64 `json:"factor"`
			Length  int     `json:"length"`
			Factors []int   `json:"factors"`
		} `json:"params"`
		Name string `json:"name"`
	}
	for text, want := range map[string]string{
		`{"params": {"factor": "4"}}`: "params.factor: string, where a number is wanted",
		`{"params": {"length": 2.5}}`: "params.length: number 2.5, where a whole number is wanted",
		`{"params": {"factors": {}}}`: "params.factors: object, where an array is wanted",
		`{"params": []}`:              "params: array, where an object is wanted",
		`{"name": 1}`:                 "name: number, where a string is wanted",
		`{"name"`:                     "unexpected end of JSON input",
	} {
		assert.EqualError(t, Plain(json.Unmarshal([]byte(text), &v)), want, text)
	}
}
