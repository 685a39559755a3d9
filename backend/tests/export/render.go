// Renders Ollama templates as Ollama does: Go's text/template over .System and .Messages. JSON in, JSON out.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"text/template"
)

type asked struct {
	Template string
	System   string
	Messages []struct{ Role, Content string }
}

func main() {
	var all []asked
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		panic(err)
	}
	texts := []string{}
	for _, one := range all {
		var text bytes.Buffer
		if err := template.Must(template.New("").Parse(one.Template)).Execute(&text, one); err != nil {
			panic(err)
		}
		texts = append(texts, text.String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(texts); err != nil {
		panic(err)
	}
}
