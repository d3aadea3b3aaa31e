from trainers.grpo import main

if __name__ == "__main__":
    main()
