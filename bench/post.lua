-- Makes wrk send empty POST requests.
wrk.method = "POST"
