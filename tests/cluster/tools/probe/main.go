// What a pod can reach: the API server, by its name in the cluster's DNS and as the pod's ServiceAccount.
// With an argument it answers on port 8080 instead.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net/http"
	"os"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	if len(os.Args) > 1 {
		log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(answer, "the pod answers")
		})))
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read("ca.crt"))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	request, err := http.NewRequest("GET", "https://kubernetes.default.svc/api/v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+string(read("token")))
	answer, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the API server answered", answer.StatusCode)
	if answer.StatusCode != http.StatusOK {
		os.Exit(1)
	}
}

func read(name string) []byte {
	content, err := os.ReadFile(account + name)
	if err != nil {
		log.Fatal(err)
	}
	return content
}
