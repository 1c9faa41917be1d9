# Heroku reads this when a dyno starts, so that `heroku run archiver check` finds the command line.
export PATH="$HOME/deploy/bin:$PATH"
