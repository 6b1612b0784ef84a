#!/bin/sh
# A command-line assistant as it behaves in the field: fake_assistant.sh HOW [REPLY_FILE]
# It is run by tests/field/endpoints.py, as the program of --command.
cat > /dev/null
case $1 in
  limit)        echo "You've hit your session limit. It resets at 5am (UTC)." ;;
  limit-err)    echo "rate limit reached; try again in 2 hours" >&2; exit 1 ;;
  api-error)    echo "API Error: 529 overloaded" ;;
  login)        echo "Invalid API key. Please run the login command." ;;
  login-url)    echo "Open https://localhost/login in a browser and paste the code:"; sleep 3600 ;;
  silent)       ;;
  hang-child)   (setsid sleep 30 &); cat "$2" ;;  # it leaves a child behind that holds stdout
  hang-stdout)  (sleep 30 &); cat "$2" ;;
  no-newline)   printf '%s' "$(cat "$2")" ;;
  late-err)     cat "$2"; echo "telemetry could not be sent" >&2; exit 1 ;;
  late-hang)    cat "$2"; sleep 3600 ;;
  flood)        yes 'thinking about it' | head -n 1600000; cat "$2" ;;
  edits)        echo "// edited by the assistant" >> train.cpp; git commit -qam edited 2> /dev/null
                cat "$2" ;;
  stdin-closed) exec <&-; cat "$2" ;;
  *)            cat "$2" ;;
esac
