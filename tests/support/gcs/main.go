// A Google Cloud Storage server for tests: fake-gcs-server, and before it a front for the one request that it lacks, the
// XML API's PUT of an object, which the object_store crate writes with. It prints its address and ends with its standard
// input.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

func main() {
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	if err != nil {
		fail(err)
	}
	buckets := map[string]bool{}
	for _, bucket := range os.Args[1:] {
		server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
		buckets[bucket] = true
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	behind := server.HTTPHandler()
	front := func(answer http.ResponseWriter, request *http.Request) {
		bucket, object, _ := strings.Cut(strings.TrimPrefix(request.URL.EscapedPath(), "/"), "/")
		bucket, _ = url.PathUnescape(bucket)
		if !buckets[bucket] {
			answer.Header().Set("Content-Type", "application/xml")
			answer.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(answer, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchBucket</Code>"+
				"<Message>The specified bucket does not exist.</Message></Error>")
			return
		}
		if request.Method == http.MethodPut && object != "" {
			put(server, answer, request, bucket, object)
			return
		}
		// The front's own address is the public host that its routes ask for.
		request.Host = "storage.googleapis.com"
		behind.ServeHTTP(answer, request)
	}
	fail(http.Serve(listener, http.HandlerFunc(front)))
}

func put(server *fakestorage.Server, answer http.ResponseWriter, request *http.Request, bucket, object string) {
	name, err := url.PathUnescape(object)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	content, err := io.ReadAll(request.Body)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	server.CreateObject(fakestorage.Object{
		ObjectAttrs: fakestorage.ObjectAttrs{
			BucketName: bucket, Name: name, ContentType: request.Header.Get("Content-Type"),
		},
		Content: content,
	})
	kept, err := server.GetObject(bucket, name)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	answer.Header().Set("ETag", `"`+kept.Etag+`"`)
	answer.Header().Set("x-goog-generation", strconv.FormatInt(kept.Generation, 10))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
