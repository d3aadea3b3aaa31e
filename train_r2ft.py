from trainers.r2ft import main

if __name__ == "__main__":
    main()
